"""The default device and dtype of a network."""

import os

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(device: str | torch.device | None = None) -> torch.device:
    """`device` or, by default, the first that is available of CUDA, Apple's MPS and the CPU."""
    if device is not None:
        try:
            return torch.device(device)
        except RuntimeError as error:
            raise ValueError(f"device: expected 'cpu', 'cuda', 'cuda:0', 'mps', got {device!r}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the device multiplies it several times as fast as float32, float32 otherwise.

    The environment variable MULTIMODAL_DTYPE ("float32" or "bfloat16") overrides this choice.
    """
    forced = os.environ.get("MULTIMODAL_DTYPE")
    if forced:
        if forced not in DTYPES:
            raise ValueError(f"MULTIMODAL_DTYPE: expected one of {sorted(DTYPES)}, got {forced!r}")
        return DTYPES[forced]
    if device.type == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        fast = device.type == "cpu" and bfloat16_cpu()
    return torch.bfloat16 if fast else torch.float32


def bfloat16_cpu() -> bool:
    """Whether this processor has AMX or AVX512-BF16."""
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())
