"""Writes small checkpoints as every family publishes them, each with the features it must give.

The architectures are the libraries' own where they are installed (open_clip, timm, torchvision),
and written out here under the publishers' names where they are not (Hugging Face's CLIP, DINOv2).
Sizes are tiny; names, nesting and pickling are those of the published files.
"""

import json
import pickle
import sys
import tarfile
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

WIDTH, LAYERS, PATCH, SIZE, DIM = 64, 2, 8, 32, 24
CLIP = {
    "embed_dim": DIM,
    "vision_cfg": {"layers": LAYERS, "width": WIDTH, "patch_size": PATCH, "image_size": SIZE},
    "text_cfg": {"context_length": 8, "vocab_size": 16, "width": 32, "heads": 2, "layers": 1},
}


@dataclass(frozen=True)
class Published:
    """A file, the layout and the family it must be told to be, and the model that wrote it."""

    path: Path
    layout: str
    title: str
    features: Callable[[Tensor], Tensor]
    image_size: int = SIZE


def randomised(module: nn.Module, seed: int) -> nn.Module:
    """Every parameter random, none zero or one, so that no mistake in a name goes unseen."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = (parameter.shape[-1] if parameter.ndim > 1 else 16) ** -0.5
            around = 1.0 if "norm" in name or "ln_" in name or "layrnorm" in name else 0.0
            parameter.copy_(around * (parameter.ndim == 1) * ("weight" in name) + scale * noise)
    return module.eval().requires_grad_(False)


def open_clip_model(seed: int = 0, quick_gelu: bool = False) -> nn.Module:
    """A whole CLIP of open_clip's, at a tiny size."""
    from open_clip.model import CLIP as Clip

    return randomised(Clip(**CLIP, quick_gelu=quick_gelu), seed)


# --- the published pickled modules (Ilharco et al., Ortiz-Jimenez et al.) --------------------


class ImageEncoder(nn.Module):
    """Pickled whole by task_vectors: an open_clip model without its text blocks."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.train_preprocess = partial(nn.LayerNorm, eps=1e-6)
        self.cache_dir = None
        self.places = (Path("data"), torch.float32, torch.device("cpu"), slice(1, 2), {1, 2})
        if hasattr(model, "transformer"):
            delattr(model, "transformer")

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode_image(images)


class ClassificationHead(nn.Linear):
    """Pickled whole too: zero-shot weights as a linear layer, features normalised first."""

    def __init__(self, normalize: bool, weights: Tensor) -> None:
        classes, dim = weights.shape
        super().__init__(dim, classes)
        self.normalize = normalize
        self.weight = nn.Parameter(weights.clone())
        self.bias = nn.Parameter(torch.zeros(classes))


class as_if_from:
    """While active, classes pickle as members of a module that exists nowhere else."""

    def __init__(self, module: str, *classes: type) -> None:
        self.module, self.classes = module, classes

    def __enter__(self) -> None:
        self.before = [cls.__module__ for cls in self.classes]
        parts = self.module.split(".")
        self.made = [".".join(parts[: i + 1]) for i in range(len(parts))]
        for name in self.made:
            sys.modules[name] = types.ModuleType(name)
        for cls in self.classes:
            cls.__module__ = self.module
            setattr(sys.modules[self.module], cls.__name__, cls)

    def __exit__(self, *_: object) -> None:
        for cls, module in zip(self.classes, self.before, strict=True):
            cls.__module__ = module
        for name in self.made:
            del sys.modules[name]


def image_encoder(seed: int = 0, quick_gelu: bool = False) -> ImageEncoder:
    return ImageEncoder(open_clip_model(seed, quick_gelu)).eval()


def pickled_module(folder: Path, how: str) -> Published:
    """A whole module: in torch's zip, in torch's old format, or as a plain pickle."""
    encoder, path = image_encoder(), folder / f"finetuned-{how}.pt"
    with as_if_from("src.modeling", ImageEncoder):
        if how == "zip":
            torch.save(encoder, path)
        elif how == "old":
            torch.save(encoder, path, _use_new_zipfile_serialization=False)
        else:
            path.write_bytes(pickle.dumps(encoder, protocol=int(how)))
    return Published(path, "image_encoder", "ViT", encoder)


def pickled_head(path: Path, weights: Tensor) -> Path:
    with as_if_from("src.modeling", ClassificationHead):
        torch.save(ClassificationHead(True, weights), path)
    return path


# --- Hugging Face's CLIPVisionModelWithProjection --------------------------------------------


class HFAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k_proj, self.v_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.q_proj, self.out_proj = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        scores = self.q_proj(x) @ self.k_proj(x).mT / WIDTH**0.5  # one head of 64
        return self.out_proj(scores.softmax(-1) @ self.v_proj(x))


class HFLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.self_attn = HFAttention()
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.mlp = nn.ModuleDict(
            {"fc1": nn.Linear(WIDTH, 4 * WIDTH), "fc2": nn.Linear(4 * WIDTH, WIDTH)}
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.layer_norm2(x))))


class HFVision(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.empty(WIDTH))
        self.embeddings.patch_embedding = nn.Conv2d(3, WIDTH, PATCH, PATCH, bias=False)
        self.embeddings.position_embedding = nn.Embedding(17, WIDTH)
        self.embeddings.register_buffer("position_ids", torch.arange(17).expand(1, -1))
        self.pre_layrnorm = nn.LayerNorm(WIDTH)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(HFLayer() for _ in range(LAYERS))
        self.post_layernorm = nn.LayerNorm(WIDTH)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embeddings.patch_embedding(images).flatten(2).mT
        first = self.embeddings.class_embedding.expand(len(images), 1, -1)
        x = torch.cat([first, patches], 1) + self.embeddings.position_embedding.weight
        x = self.pre_layrnorm(x)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x[:, 0])


class HFVisionWithProjection(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.vision_model = HFVision()
        self.visual_projection = nn.Linear(WIDTH, DIM, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        return self.visual_projection(self.vision_model(images))


def hugging_face(folder: Path, how: str) -> Published:
    """ "projection": CLIPVisionModelWithProjection; "clip": CLIPModel; "sharded"."""
    model = randomised(HFVisionWithProjection(), 1)
    tensors = {key: value.clone() for key, value in model.state_dict().items()}
    path = folder / "model.safetensors"
    if how == "clip":
        tensors |= {"text_model.embeddings.token_embedding.weight": torch.zeros(4, 2)}
        tensors |= {"logit_scale": torch.tensor(4.6), "text_projection.weight": torch.zeros(2, 2)}
    if how == "sharded":
        path = folder / "model.safetensors.index.json"
        names = sorted(tensors)
        places = {
            name: f"model-{i % 3 + 1:05}-of-00003.safetensors" for i, name in enumerate(names)
        }
        for shard in set(places.values()):
            part = {name: tensors[name] for name in names if places[name] == shard}
            save_file(part, folder / shard)
        path.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    else:
        save_file(tensors, path, {"format": "pt"})
    return Published(path, "hf", "ViT", model)


# --- DINOv2 ----------------------------------------------------------------------------------


class DinoBlock(nn.Module):
    def __init__(self, gated: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attn = nn.ModuleDict(
            {"qkv": nn.Linear(WIDTH, 3 * WIDTH), "proj": nn.Linear(WIDTH, WIDTH)}
        )
        self.ls1, self.ls2 = nn.Module(), nn.Module()
        self.ls1.gamma = nn.Parameter(torch.empty(WIDTH))
        self.ls2.gamma = nn.Parameter(torch.empty(WIDTH))
        hidden = 96 if gated else 4 * WIDTH
        names = ("w12", "w3") if gated else ("fc1", "fc2")
        first = nn.Linear(WIDTH, 2 * hidden if gated else hidden)
        self.mlp = nn.ModuleDict(dict(zip(names, (first, nn.Linear(hidden, WIDTH)), strict=True)))
        self.gated = gated

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).chunk(3, -1)
        attended = (q @ k.mT / WIDTH**0.5).softmax(-1) @ v
        x = x + self.ls1.gamma * self.attn["proj"](attended)
        h = self.norm2(x)
        if self.gated:
            gate, value = self.mlp["w12"](h).chunk(2, -1)
            h = self.mlp["w3"](F.silu(gate) * value)
        else:
            h = self.mlp["fc2"](F.gelu(self.mlp["fc1"](h)))
        return x + self.ls2.gamma * h


class Dino(nn.Module):
    def __init__(self, registers: int, gated: bool) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(torch.empty(1, 5, WIDTH))
        if registers:
            self.register_tokens = nn.Parameter(torch.empty(1, registers, WIDTH))
        self.mask_token = nn.Parameter(torch.empty(1, WIDTH))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, WIDTH, 14, 14)})
        self.blocks = nn.ModuleList(DinoBlock(gated) for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images).flatten(2).mT
        x = torch.cat([self.cls_token.expand(len(images), -1, -1), patches], 1) + self.pos_embed
        if hasattr(self, "register_tokens"):
            registers = self.register_tokens.expand(len(images), -1, -1)
            x = torch.cat([x[:, :1], registers, x[:, 1:]], 1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def dino(folder: Path, registers: int, gated: bool) -> Published:
    model, path = randomised(Dino(registers, gated), 2), folder / "dinov2_pretrain.pth"
    torch.save(model.state_dict(), path)
    layout = "dinov2" + ("_giant" if gated else "") + ("_reg" if registers else "")
    return Published(path, layout, "DINOv2 ViT", model, 28)


# --- timm and torchvision --------------------------------------------------------------------


def timm_vit(folder: Path, **options: object) -> Published:
    from timm.models.vision_transformer import VisionTransformer

    settings = {"img_size": SIZE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": LAYERS}
    model = VisionTransformer(**settings, num_heads=1, num_classes=5, **options)
    randomised(model, 3)
    path = folder / "pytorch_model.bin"
    torch.save(model.state_dict(), path)
    return Published(path, "timm_vit", "plain ViT", lambda x: features_of(model, x))


def features_of(model: nn.Module, x: Tensor) -> Tensor:
    return model.forward_head(model.forward_features(x), pre_logits=True)


def timm_convnext(folder: Path) -> Published:
    from timm.models.convnext import ConvNeXt

    model = randomised(ConvNeXt(depths=(1, 2, 1, 1), dims=(8, 16, 24, 32), num_classes=3), 4)
    path = folder / "model.safetensors"
    save_file(model.state_dict(), path)
    return Published(path, "timm_convnext", "ConvNeXt", lambda x: features_of(model, x))


def torchvision_vit(folder: Path, published: bool) -> Published:
    """As torchvision writes it today, and as its published files (version 1) are."""
    from torchvision.models import VisionTransformer

    model = VisionTransformer(SIZE, PATCH, LAYERS, 1, WIDTH, 2 * WIDTH, num_classes=7)
    randomised(model, 5)
    old = {".mlp.0.": ".mlp.linear_1.", ".mlp.3.": ".mlp.linear_2."} if published else {}
    tensors = OrderedDict()
    for key, tensor in model.state_dict().items():
        for new, former in old.items():
            key = key.replace(new, former)
        tensors[key] = tensor
    path = folder / "vit.pth"
    torch.save(tensors, path)

    def features(images: Tensor) -> Tensor:
        x = model._process_input(images)
        x = torch.cat([model.class_token.expand(len(x), -1, -1), x], 1)
        return model.encoder(x)[:, 0]

    layout = "torchvision_vit_v1" if published else "torchvision_vit"
    return Published(path, layout, "plain ViT", features)


def torchvision_convnext(folder: Path) -> Published:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [(8, 16, 1), (16, 24, 2), (24, 32, 1), (32, None, 1)]
    model = randomised(ConvNeXt([CNBlockConfig(*stage) for stage in stages], num_classes=3), 6)
    path = folder / "convnext.pth"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=False)

    def features(images: Tensor) -> Tensor:
        return model.classifier[:2](model.avgpool(model.features(images)))

    return Published(path, "torchvision_convnext", "ConvNeXt", features)


# --- open_clip and what training programs make of it -----------------------------------------


def open_clip_file(folder: Path, how: str) -> Published:
    model, path = open_clip_model(7), folder / f"{how}.pt"
    state, layout = model.state_dict(), "open_clip_model"
    if how == "whole":
        torch.save(state, path)
    elif how == "safetensors":
        save_file({key: t.contiguous() for key, t in state.items()}, path)
    elif how == "training":  # open_clip's own training program
        content = {"epoch": 3, "state_dict": {f"module.{key}": t for key, t in state.items()}}
        torch.save(content | {"optimizer": {"state": {0: {"exp_avg": torch.zeros(3)}}}}, path)
    elif how == "lightning":
        content = {"state_dict": {f"encoder.model.{key}": t for key, t in state.items()}}
        settings = {"path": Path("runs"), "norm": partial(nn.LayerNorm, eps=1e-6)}
        extra = {"pytorch-lightning_version": "2.2", "hyper_parameters": settings, "loops": None}
        torch.save(content | extra, path)
        layout = "image_encoder"
    elif how == "compiled":
        torch.save({"model": {f"_orig_mod.{key}": t for key, t in state.items()}}, path)
    elif how == "tower":
        torch.save(model.visual.state_dict(), path)
        layout = "open_clip"
    elif how == "tall_masks":  # nik-dim/tall_masks: the ImageEncoder's state_dict
        torch.save(ImageEncoder(open_clip_model(7)).state_dict(), path)
        layout = "image_encoder"
    elif how == "scripted":  # OpenAI's own files are TorchScript archives
        torch.jit.save(torch.jit.trace(_Visual(model.visual), torch.zeros(1, 3, SIZE, SIZE)), path)
    elif how == "tar":
        write_tar(path, {f"visual.{key}": t for key, t in model.visual.state_dict().items()})
    return Published(path, layout, "ViT", model.encode_image)


class _Visual(nn.Module):
    def __init__(self, visual: nn.Module) -> None:
        super().__init__()
        self.visual = visual

    def forward(self, images: Tensor) -> Tensor:
        return self.visual(images)


def linearised(folder: Path) -> tuple[Published, nn.Module]:
    """tangent_task_arithmetic's state_dict: parameters by number, twice, and the model's name."""
    tuned, start = image_encoder(8), image_encoder(9)
    content: dict[str, object] = {"model_name": "ViT-B-32"}
    for name, encoder in (("params", tuned), ("params0", start)):
        for i, parameter in enumerate(encoder.parameters()):
            content[f"model.{name}.{i}"] = parameter
    path = folder / "linear_finetuned.pt"
    torch.save(content, path)
    return Published(path, "open_clip", "ViT", tuned), start


class FloatTensor:
    """Stands for the class that torch before 0.1.10 pickled its tensors by."""


def write_tar(path: Path, tensors: dict[str, Tensor]) -> None:
    """torch's format before 0.1.10: storages, tensors and a pickle in a tar archive."""
    import io
    import struct

    parts = {name: io.BytesIO() for name in ("sys_info", "pickle", "tensors", "storages")}
    with as_if_from("torch_of_old", FloatTensor, FloatStorage):
        pickle.dump({"protocol_version": 1000}, parts["sys_info"])
        for name in ("storages", "tensors"):
            pickle.dump(len(tensors), parts[name])
        for i, tensor in enumerate(tensors.values()):
            pickle.dump((i, "cpu", FloatStorage), parts["storages"])
            raw = tensor.contiguous().numpy().tobytes()
            parts["storages"].write(struct.pack("<q", tensor.numel()) + raw)
            pickle.dump((1000 + i, i, FloatTensor), parts["tensors"])
            shape, stride = tensor.shape, tensor.contiguous().stride()
            numbers = (*shape, *stride, 0)
            parts["tensors"].write(struct.pack("<ixxxx", len(shape)))
            parts["tensors"].write(struct.pack(f"<{len(numbers)}q", *numbers))
        pickle.dump([], parts["storages"])
        pickler = _ByKey(parts["pickle"], 2)
        pickler.dump(OrderedDict((key, _Key(1000 + i)) for i, key in enumerate(tensors)))
    with tarfile.open(path, "w:") as archive:
        for name, part in parts.items():
            info = tarfile.TarInfo(name)
            info.size = len(part.getvalue())
            part.seek(0)
            archive.addfile(info, part)


class FloatStorage:
    """Stands for torch's class of old."""


@dataclass(frozen=True)
class _Key:
    key: int


class _ByKey(pickle.Pickler):
    def persistent_id(self, value: object) -> object:
        return str(value.key) if isinstance(value, _Key) else None


OPEN_CLIP = (
    "whole",
    "safetensors",
    "training",
    "lightning",
    "compiled",
    "tower",
    "tall_masks",
    "scripted",
    "tar",
)
FAMILIES: dict[str, Callable[[Path], Published]] = {
    **{f"open_clip {how}": partial(open_clip_file, how=how) for how in OPEN_CLIP},
    **{f"pickled {how}": partial(pickled_module, how=how) for how in ("zip", "old", "2", "4")},
    **{f"hf {how}": partial(hugging_face, how=how) for how in ("projection", "clip", "sharded")},
    "dinov2": partial(dino, registers=0, gated=False),
    "dinov2 registers": partial(dino, registers=4, gated=False),
    "dinov2 giant": partial(dino, registers=0, gated=True),
    "dinov2 giant registers": partial(dino, registers=4, gated=True),
    "timm": timm_vit,
    "timm average": partial(timm_vit, global_pool="avg"),
    "timm no class token": partial(timm_vit, class_token=False, global_pool="avg"),
    "timm registers": partial(timm_vit, reg_tokens=3, no_embed_class=True, init_values=1.0),
    "timm pre-norm": partial(timm_vit, pre_norm=True, qk_norm=True, qkv_bias=False),
    "timm convnext": timm_convnext,
    "torchvision vit": partial(torchvision_vit, published=False),
    "torchvision vit as published": partial(torchvision_vit, published=True),
    "torchvision convnext": torchvision_convnext,
}
