"""Every merging method once more, slowly: from its definition, with loops and NumPy in float64.

Task vectors are dictionaries task -> name -> array, coefficients task -> number.
"""

import math

import numpy as np
import torch

SHAPES = {
    "class_embedding": (6,),
    "positional_embedding": (5, 6),
    "conv1.weight": (6, 3, 2, 2),
    "ln_pre.weight": (6,),
    **{f"transformer.resblocks.{i}.attn.in_proj_weight": (18, 6) for i in range(3)},
    **{f"transformer.resblocks.{i}.mlp.c_fc.weight": (9, 14) for i in range(3)},
    **{f"transformer.resblocks.{i}.mlp.c_fc.bias": (24,) for i in range(3)},
    "ln_post.weight": (6,),
    "proj": (6, 4),
    "scale": (),
}


_random = np.random.default_rng(11)
BASE = {key: _random.normal(size=shape) for key, shape in SHAPES.items()}


def slow_sum(taus, c):
    total = {key: np.zeros(shape) for key, shape in SHAPES.items()}
    for task, tau in taus.items():
        for key in tau:
            total[key] = total[key] + c[task] * tau[key]
    return total


def slow_mean(taus, c):
    return {key: x / len(taus) for key, x in slow_sum(taus, c).items()}


def slow_ties(taus, c, density=0.2, merge="mean"):
    flat = {t: np.concatenate([tau[k].ravel() for k in SHAPES]) for t, tau in taus.items()}
    size = len(flat[next(iter(flat))])
    kept = {}
    for task, x in flat.items():
        order = sorted(abs(v) for v in x)[::-1]
        count = int(density * size)
        limit = order[count - 1] if count else math.inf
        kept[task] = [c[task] * v if abs(v) >= limit else 0.0 for v in x]
    signs = [np.sign(sum(kept[t][i] for t in kept)) for i in range(size)]
    majority = -1 if sum(signs) < 0 else 1
    merged = []
    for i in range(size):
        sign = signs[i] or majority
        agreeing = [kept[t][i] for t in kept if np.sign(kept[t][i]) == sign]
        total = sum(agreeing)
        merged.append(total / max(1, len(agreeing)) if merge == "mean" else total)
    return unflat(np.array(merged))


def slow_breadcrumbs(taus, c, density=0.2, outliers=0.1):
    total = {key: np.zeros(shape) for key, shape in SHAPES.items()}
    for task, tau in taus.items():
        for key, x in tau.items():
            rows = x.reshape(-1, x.shape[-1] if x.ndim else 1).copy()
            for row in rows if x.ndim else []:
                sizes = sorted((abs(v) for v in row), reverse=True)
                top = int(outliers * len(row))
                stay = sizes[top : top + int(density * len(row))]
                for j, v in enumerate(row):
                    dropped = top and abs(v) >= sizes[top - 1]
                    if not stay or dropped or abs(v) < stay[-1]:
                        row[j] = 0.0
            total[key] = total[key] + c[task] * rows.reshape(x.shape)
    return total


def slow_masks(taus, c, threshold):
    total = slow_sum(taus, c)
    masks = {
        t: {k: abs(c[t] * tau[k]) > threshold * abs(total[k] - c[t] * tau[k]) for k in tau}
        for t, tau in taus.items()
    }
    return total, masks


def slow_tall_masks(taus, c, task="", mask_threshold=0.4):
    total, masks = slow_masks(taus, c, mask_threshold)
    return {key: np.where(masks[task][key], total[key], 0.0) for key in total}


def slow_consensus(taus, c, mask_threshold=0.4, tasks_needed=2):
    total, masks = slow_masks(taus, c, mask_threshold)
    merged = {}
    for key, x in total.items():
        votes = sum(masks[task][key].astype(int) for task in taus)
        merged[key] = np.where(votes >= min(tasks_needed, len(taus)), x, 0.0)
    return merged


def orthonormal(a):
    """The polar factor by another road: A (A^T A)^(-1/2)."""
    if a.shape[0] < a.shape[1]:
        return orthonormal(a.T).T
    values, vectors = np.linalg.eigh(a.T @ a)
    return a @ (vectors / np.sqrt(values)) @ vectors.T


def by_matrix(rule):
    def method(taus, c, **options):
        merged = slow_mean(taus, c)
        for key, shape in SHAPES.items():
            if len(shape) == 2:
                merged[key] = rule([c[t] * tau[key] for t, tau in taus.items()], **options)
        return merged

    return method


def slow_iso_c(matrices):
    total = sum(matrices)
    u, s, vt = np.linalg.svd(total, full_matrices=False)
    return u @ np.diag(np.full(len(s), s.mean())) @ vt


def slow_iso_cts(matrices, common=0.8):
    u, s, vt = np.linalg.svd(sum(matrices), full_matrices=False)
    rank, n = len(s), len(matrices)
    own = round((rank - int(common * rank)) / n)
    if own * n > rank:
        own -= 1
    k = rank - own * n
    columns, rows = [u[:, i] for i in range(k)], [vt[i] for i in range(k)]
    values = [s[i] for i in range(k)]
    for matrix in matrices:
        rest = matrix.copy()
        for i in range(k):
            rest -= np.outer(u[:, i], u[:, i] @ matrix)
        u_t, s_t, vt_t = np.linalg.svd(rest)
        for i in range(own):
            columns.append(u_t[:, i])
            rows.append(vt_t[i])
            values.append(s_t[i])
    return np.mean(values) * orthonormal(np.array(columns).T) @ orthonormal(np.array(rows))


def slow_tsv_m(matrices):
    columns, rows, values = [], [], []
    for matrix in matrices:
        u, s, vt = np.linalg.svd(matrix)
        for i in range(max(1, len(s) // len(matrices))):
            columns.append(u[:, i])
            rows.append(vt[i])
            values.append(s[i])
    left, right = orthonormal(np.array(columns).T), orthonormal(np.array(rows))
    return left @ np.diag(values) @ right


def slow_wudi(matrices, steps=300, learning_rate=1e-5):
    taus = [torch.tensor(matrix) for matrix in matrices]
    merged = sum(taus).clone().requires_grad_()
    adam = torch.optim.Adam([merged], lr=learning_rate)
    for _ in range(steps):
        adam.zero_grad()
        loss = sum(((merged - t) @ t.T).square().sum() / t.square().sum() for t in taus)
        loss.backward()
        adam.step()
    return merged.detach().numpy()


def slow_model_stock(taus, c):
    merged = {}
    for key in SHAPES:
        parts = [c[t] * tau[key].ravel() for t, tau in taus.items()]
        n = len(parts)
        cosines = [
            a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) if a.any() and b.any() else 0.0
            for i, a in enumerate(parts)
            for b in parts[:i]
        ]
        cosine = max(0.0, float(np.mean(cosines))) if cosines else 1.0
        t = n * cosine / (1 + (n - 1) * cosine)
        merged[key] = t * (sum(parts) / n).reshape(SHAPES[key])
    return merged


def slow_slerp(taus, c, t=0.5, by="whole"):
    a, b = ({key: c[task] * tau[key] for key in tau} for task, tau in taus.items())
    merged = {}
    for key in SHAPES:
        keys = [key] if by == "tensor" else list(SHAPES)
        x = np.concatenate([a[k].ravel() for k in keys])
        y = np.concatenate([b[k].ravel() for k in keys])
        cosine = x @ y / (np.linalg.norm(x) * np.linalg.norm(y))
        if abs(cosine) > 0.9995:
            merged[key] = (1 - t) * a[key] + t * b[key]
        else:
            w = np.arccos(cosine)
            merged[key] = (np.sin((1 - t) * w) * a[key] + np.sin(t * w) * b[key]) / np.sin(w)
    return merged


def slow_layer_directions(taus, c):
    def layer(key):
        if "resblocks." in key:
            return key.split("resblocks.")[1][0]
        return "output" if key in ("ln_post.weight", "proj") else "input"

    merged = {key: np.zeros(shape) for key, shape in SHAPES.items()}
    for name in {layer(key) for key in SHAPES}:
        keys = [key for key in SHAPES if layer(key) == name]
        lengths = {t: np.sqrt(sum((tau[k] ** 2).sum() for k in keys)) for t, tau in taus.items()}
        mean = sum(lengths.values()) / len(lengths)
        for t, tau in taus.items():
            for key in keys:
                if lengths[t]:
                    merged[key] = merged[key] + mean * c[t] * tau[key] / lengths[t]
    return merged


def slow_larv(taus, c, merger=slow_sum, gate="three tiers", low=0.5, high=1.5, eta=1.0, rho=0.5,
              gamma=3.0):  # fmt: skip
    def effective_rank(x):
        energies = [s**2 for s in np.linalg.svd(x, compute_uv=False)]
        shares = [e / sum(energies) for e in energies if e > 0]
        return math.exp(-sum(p * math.log(p) for p in shares))

    def conflict(w, d):
        total = 0.0
        for a, b in ((w, d), (w.T, d.T)):
            total += sum((a[i] @ b[j] - b[i] @ a[j]) ** 2 for i in range(len(a))
                         for j in range(len(a))) ** 0.5  # fmt: skip
        return total / 2 / math.sqrt((w**2).sum() * (d**2).sum())

    rescaled = {}
    for task, tau in taus.items():
        found = {}
        for i in range(3):
            keys = [k for k in SHAPES if f"resblocks.{i}." in k and len(SHAPES[k]) == 2]
            keys = [k for k in keys if np.abs(tau[k]).max() > 0]
            if keys:
                e = [effective_rank(BASE[k]) / effective_rank(tau[k]) for k in keys]
                found[i] = (sum(e) / len(e), sum(conflict(BASE[k], tau[k]) for k in keys) / len(e))
        conflicts = [x for _, x in found.values()]
        spread = np.std(conflicts) if len(found) > 1 else 1.0
        score = {
            i: e**eta * ((i + 1) / 3) ** rho
            / (1 + np.log(1 + np.exp((x - np.mean(conflicts)) / spread)))
            for i, (e, x) in found.items()
        }  # fmt: skip
        order = sorted(score, key=score.get)
        scale = dict.fromkeys(range(3), 1.0)
        for place, i in enumerate(order):
            if gate == "continuous":
                scale[i] = (low + high) / 2 + (high - low) / 2 * np.tanh(gamma * (score[i] - 1))
            elif len(order) == 3:  # three thirds of one block; the median is the middle one
                scale[i] = (low, (low + high) / 2, high)[place]
        rescaled[task] = {
            key: x * (scale[int(key.split("resblocks.")[1][0])] if "resblocks." in key else 1.0)
            for key, x in tau.items()
        }
    return merger(rescaled, c)


def slow_larv_over(slow):
    def larv(taus, c, merger, **options):
        return slow_larv(taus, c, slow, **options)

    return larv


FACTORS = {"birds": [0.5, 1.0, 2.0, 0.25, -1.0], "digits": [0.0, 0.1, 0.2, 0.3, 0.4]}
BY_TENSOR = {"cars": [round(0.1 * i, 1) for i in range(len(SHAPES))]}


def written(table):
    return ";".join(f"{task}={','.join(map(str, row))}" for task, row in table.items())


def slow_layerwise(taus, c, by="layer", factors=""):
    table = {part.split("=")[0]: part.split("=")[1].split(",") for part in factors.split(";")}
    total = {key: np.zeros(shape) for key, shape in SHAPES.items()}
    for task, tau in taus.items():
        for key in tau:
            if by == "tensor":
                place = sorted(SHAPES).index(key)
            elif "resblocks" in key:
                place = 1 + int(key.split(".")[2])
            else:
                place = 4 if key in ("ln_post.weight", "proj") else 0
            factor = float(table[task][place]) if task in table else 1.0
            total[key] = total[key] + c[task] * factor * tau[key]
    return total


def unflat(flat):
    merged, at = {}, 0
    for key, shape in SHAPES.items():
        n = math.prod(shape)
        merged[key] = flat[at : at + n].reshape(shape)
        at += n
    return merged


# (method, its slow version, options)
SLOW = [
    ("task_arithmetic", slow_sum, {}),
    ("weight_averaging", slow_mean, {}),
    ("ties", slow_ties, {}),
    ("ties", slow_ties, {"density": 0.65, "merge": "sum"}),
    ("ties", slow_ties, {"density": 1.0}),
    ("ties", slow_ties, {"density": 0.0}),
    ("breadcrumbs", slow_breadcrumbs, {}),
    ("breadcrumbs", slow_breadcrumbs, {"density": 0.5, "outliers": 0.25}),
    ("breadcrumbs", slow_breadcrumbs, {"density": 1.0, "outliers": 0.0}),
    ("breadcrumbs", slow_breadcrumbs, {"density": 0.5, "outliers": 1.0}),
    ("tall_masks", slow_tall_masks, {"task": "cars"}),
    ("tall_masks", slow_tall_masks, {"task": "birds", "mask_threshold": 1.0}),
    ("consensus", slow_consensus, {}),
    ("consensus", slow_consensus, {"mask_threshold": 0.7, "tasks_needed": 3}),
    ("iso_c", by_matrix(slow_iso_c), {}),
    ("iso_cts", by_matrix(slow_iso_cts), {}),
    ("iso_cts", by_matrix(slow_iso_cts), {"common": 0.25}),
    ("tsv_m", by_matrix(slow_tsv_m), {}),
    ("wudi", by_matrix(slow_wudi), {"steps": 25, "learning_rate": 0.01}),
    ("model_stock", slow_model_stock, {}),
    ("layer_directions", slow_layer_directions, {}),
    ("layerwise", slow_layerwise, {"factors": written(FACTORS)}),
    ("layerwise", slow_layerwise, {"by": "tensor", "factors": written(BY_TENSOR)}),
    ("larv", slow_larv, {}),
    ("larv", slow_larv, {"gate": "two tiers", "low": 0.2, "high": 1.1}),
    ("larv", slow_larv, {"gate": "continuous", "eta": 0.5, "rho": 2.0, "gamma": 1.5}),
    ("larv", slow_larv_over(slow_ties), {"merger": "ties"}),
    ("larv", slow_larv_over(by_matrix(slow_iso_c)), {"merger": "iso_c", "low": 0.9}),
]  # fmt: skip
