"""The text decoder compared with language models of transformers."""

import torch
from torch import nn

from tests.layers.peers import copy_to_llama

from .tiny import (
    CONTEXT,
    HEADS,
    LAYERS,
    MEMORY_WIDTH,
    MODERN,
    VOCABULARY,
    WIDTH,
    assert_near,
    make_decoder,
    make_memory,
    make_tokens,
)


@torch.no_grad()
def test_a_language_model_equals_gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    decoder = make_decoder(None, activation="gelu_tanh")
    config = GPT2Config(vocab_size=VOCABULARY, n_positions=CONTEXT, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    theirs = GPT2LMHeadModel(config).eval()
    theirs.transformer.wte.load_state_dict(decoder.embedding.state_dict())
    theirs.transformer.wpe.weight.copy_(decoder.positions)
    theirs.transformer.ln_f.load_state_dict(decoder.norm.state_dict())
    for mine, block in zip(decoder.blocks, theirs.transformer.h, strict=True):
        block.ln_1.load_state_dict(mine.norm1.state_dict())
        block.ln_2.load_state_dict(mine.norm2.state_dict())
        for ours, other in (
            (mine.attention.qkv, block.attn.c_attn),
            (mine.attention.out, block.attn.c_proj),
            (mine.mlp[0], block.mlp.c_fc),
            (mine.mlp[2], block.mlp.c_proj),
        ):
            other.weight.copy_(ours.weight.T)  # a Conv1D there
            other.bias.copy_(ours.bias)
    tokens = make_tokens()
    assert_near(decoder(tokens).logits, theirs(tokens).logits)


@torch.no_grad()
def test_a_language_model_equals_llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    decoder = make_decoder(None, positions="rotary", tie_embeddings=False, eps=1e-6, **MODERN)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=CONTEXT,
    )
    theirs = LlamaForCausalLM(config).eval()
    theirs.model.embed_tokens.load_state_dict(decoder.embedding.state_dict())
    theirs.model.norm.load_state_dict(decoder.norm.state_dict())
    theirs.lm_head.load_state_dict(decoder.head.state_dict())
    copy_to_llama(decoder.blocks, theirs.model.layers)
    tokens = make_tokens()
    expected = theirs(tokens).logits
    assert_near(decoder(tokens).logits, expected)
    cache = decoder.new_cache()
    got = [decoder(piece, cache=cache).logits for piece in tokens.split([3, *[1] * 9], 1)]
    assert_near(torch.cat(got, 1), expected)


@torch.no_grad()
def test_norms_after_each_sum_equal_bert_with_cross_attention():
    from transformers import BertConfig, BertLMHeadModel

    decoder = make_decoder(norm_order="post", eps=1e-3)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=CONTEXT,
        layer_norm_eps=1e-3,
        is_decoder=True,
        add_cross_attention=True,
    )
    theirs = BertLMHeadModel(config).eval()
    for layer in theirs.bert.encoder.layer:  # its memory has another width
        layer.crossattention.self.key = nn.Linear(MEMORY_WIDTH, WIDTH)
        layer.crossattention.self.value = nn.Linear(MEMORY_WIDTH, WIDTH)
    embeddings, head = theirs.bert.embeddings, theirs.cls.predictions
    embeddings.token_type_embeddings.weight.zero_()
    embeddings.position_embeddings.weight.copy_(decoder.positions)
    pairs = [
        (decoder.embedding, embeddings.word_embeddings),
        (decoder.embedding_norm, embeddings.LayerNorm),
        (decoder.head.dense, head.transform.dense),
        (decoder.head.norm, head.transform.LayerNorm),
        (decoder.head.linear, head.decoder),
    ]
    for mine, layer in zip(decoder.blocks, theirs.bert.encoder.layer, strict=True):
        own, cross = layer.attention, layer.crossattention
        for name, weight, bias in zip(
            ("query", "key", "value"), mine.attention.qkv.weight.chunk(3), mine.attention.qkv.bias.chunk(3), strict=True
        ):
            getattr(own.self, name).load_state_dict({"weight": weight, "bias": bias})
        for name, weight, bias in zip(
            ("key", "value"), mine.cross.kv.weight.chunk(2), mine.cross.kv.bias.chunk(2), strict=True
        ):
            getattr(cross.self, name).load_state_dict({"weight": weight, "bias": bias})
        pairs += [
            (mine.attention.out, own.output.dense),
            (mine.norm1, own.output.LayerNorm),
            (mine.cross.q, cross.self.query),
            (mine.cross.out, cross.output.dense),
            (mine.norm_cross, cross.output.LayerNorm),
            (mine.mlp[0], layer.intermediate.dense),
            (mine.mlp[2], layer.output.dense),
            (mine.norm2, layer.output.LayerNorm),
        ]
    for ours, other in pairs:
        other.load_state_dict(ours.state_dict())
    tokens, memory = make_tokens(), make_memory()
    expected = theirs(tokens, encoder_hidden_states=memory.features, encoder_attention_mask=memory.mask.long()).logits
    assert_near(decoder(tokens, decoder.project_memory(memory)).logits, expected)
