"""Float32 master weights of a network that computes in a narrower type."""

import torch
from torch import Tensor, nn


class MasterWeights:
    """Float32 copies of the trained parameters, which the optimizer moves (Micikevicius et al. 2018, 3.1).

    The whole network computes in the narrower type, residual stream included: no cast per layer, and half the
    memory traffic of autocast. For a float32 network the copies are the parameters themselves.
    """

    def __init__(self, module: nn.Module, dtype: torch.dtype) -> None:
        """Take the float32 `module` over and turn it into `dtype`."""
        self.module = module
        trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
        if dtype == torch.float32:
            self.masters = trained
        else:
            self.masters = {name: nn.Parameter(p.detach().clone()) for name, p in trained.items()}
            module.to(dtype)
        self.pairs = [(p, self.masters[name]) for name, p in trained.items() if p is not self.masters[name]]

    def pull_gradients(self) -> None:
        """Move the gradients of the parameters to the copies."""
        for parameter, master in self.pairs:
            master.grad = None if parameter.grad is None else parameter.grad.float()
            parameter.grad = None

    @torch.no_grad()
    def push_weights(self) -> None:
        """Write the copies back into the network, rounded."""
        for parameter, master in self.pairs:
            parameter.copy_(master)

    @torch.no_grad()
    def release(self) -> None:
        """Turn the module back to float32, with the values of the copies."""
        self.module.float()
        self.push_weights()

    def state(self) -> dict[str, Tensor]:
        """All parameters: the copies, and the network's own that are not trained."""
        return {name: p.detach() for name, p in (dict(self.module.named_parameters()) | self.masters).items()}

    @torch.no_grad()
    def load_state(self, state: dict[str, Tensor]) -> None:
        for name, parameter in self.state().items():
            parameter.copy_(state[name])
        self.push_weights()
