"""The two transformers of OpenAI's CLIP with a ViT, under the names of its state dict."""

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

_HEAD = 64  # width of an attention head in all of OpenAI's models


class _Attention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        rows, length, width = x.shape
        mixed = nn.functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        heads = mixed.view(rows, length, 3, width // _HEAD, _HEAD).permute(2, 0, 3, 1, 4)
        seen = scaled_dot_product_attention(heads[0], heads[1], heads[2], is_causal=causal)
        out: Tensor = self.out_proj(seen.transpose(1, 2).reshape(rows, length, width))
        return out


class _QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = _Attention(width)
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, 4 * width))
        self.mlp.add_module("gelu", _QuickGELU())
        self.mlp.add_module("c_proj", nn.Linear(4 * width, width))

    def forward(self, x: Tensor, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), causal)
        return x + self.mlp(self.ln_2(x))


class _Transformer(nn.Module):
    def __init__(self, width: int, depth: int, causal: bool) -> None:
        super().__init__()
        self._causal = causal
        self.resblocks = nn.ModuleList(_Block(width) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, self._causal)
        return x


class ClipImage(nn.Module):
    """Pixels (N, 3, S, S) to the class token after the last norm (N, width); `proj` (width, d) is applied by others."""

    def __init__(self, width: int, depth: int, patch: int, size: int, embedding: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty((size // patch) ** 2 + 1, width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = _Transformer(width, depth, causal=False)
        self.proj = nn.Parameter(torch.empty(width, embedding))

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        patches = self.conv1(pixels).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        out: Tensor = self.ln_post(self.transformer(self.ln_pre(tokens))[:, 0])
        return out


class ClipTowers(nn.Module):
    """Both towers; text is read left to right, and its vector is that at the end token, the highest of the ids."""

    def __init__(self, image: ClipImage, width: int, depth: int, vocabulary: int, context: int, embedding: int) -> None:
        super().__init__()
        self.visual = image
        self.token_embedding = nn.Embedding(vocabulary, width)
        self.positional_embedding = nn.Parameter(torch.empty(context, width))
        self.transformer = _Transformer(width, depth, causal=True)
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, embedding))
        self.logit_scale = nn.Parameter(torch.empty(()))

    def text_states(self, ids: Tensor) -> Tensor:
        """Token ids (P, context) to (P, width) after the last norm; what follows the longest text is not computed."""
        ends = ids.argmax(dim=1)
        ids = ids[:, : int(ends.max()) + 1]
        tokens = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        states: Tensor = self.ln_final(self.transformer(tokens))
        return states[torch.arange(len(ids), device=ids.device), ends]
