"""Which device computes, in which precision, and how much memory there is."""

import math
import os
import time
from functools import lru_cache

import torch

from explorer.compute.cores import usable_cores
from explorer.errors import MemoryShortage, ModelError

PRECISIONS = ("auto", "float32", "bfloat16")


def pick_device(name: str = "auto") -> torch.device:
    """ "auto" is a CUDA device where one works, otherwise the CPU.

    Raises ModelError for a device that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0]
        raise ModelError(
            f"The device {name!r} cannot be used ({reason}). Use device='auto' or 'cpu'."
        ) from None
    if device.type == "meta":
        raise ModelError("The device 'meta' holds no numbers. Use device='auto' or 'cpu'.")
    return device


def fast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """The number format of previews: bfloat16 where the device is faster in it, else float32.

    A CPU without bfloat16 instructions emulates them slowly, so "auto" times one layer in both
    formats, once a process. Raises ModelError for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise ModelError(
            f"There is no precision {precision!r}; choose among {', '.join(PRECISIONS)}."
        )
    if precision != "auto":
        return getattr(torch, precision)
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if _bfloat16_is_faster(device.type) else torch.float32


@lru_cache(maxsize=4)
def _bfloat16_is_faster(device_type: str) -> bool:
    # A tenth of a second at most; 1.2 leaves a tie to float32, which needs no second buffer.
    seconds = {torch.bfloat16: math.inf, torch.float32: math.inf}
    with torch.inference_mode():
        layers = {
            dtype: [torch.ones(n, 128, dtype=dtype, device=device_type) for n in (1024, 512)]
            for dtype in seconds
        }
        # In turns: on a busy machine both formats then meet the same disturbances.
        for _ in range(20):
            for dtype, (x, w) in layers.items():
                start = time.perf_counter()
                torch.nn.functional.linear(x, w)
                seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return 1.2 * seconds[torch.bfloat16] < seconds[torch.float32]


def limit_threads() -> None:
    """Keep torch from starting more threads than there are cores to run them.

    In a container with a quota torch counts the whole machine's cores, and its threads then wait
    for each other. A choice made with OMP_NUM_THREADS is respected.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > usable_cores():
        torch.set_num_threads(usable_cores())


def memory_facts(device: torch.device) -> dict[str, float]:
    """Gigabytes: "resident" of this process and "total", "available" of the device."""
    import psutil

    resident = psutil.Process().memory_info().rss / 1e9
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return {"resident": resident, "total": total / 1e9, "available": free / 1e9}
    memory = psutil.virtual_memory()
    return {
        "resident": resident,
        "total": memory.total / 1e9,
        "available": memory.available / 1e9,
    }


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, on whatever device."""
    words = str(error).lower()  # torch's processor allocator raises a plain RuntimeError
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError)
        and any(sign in words for sign in ("out of memory", "can't allocate memory"))
    )


def memory_in_words(error: Exception) -> Exception:
    """A MemoryShortage for torch's and Python's own errors of that kind; others as they are.

    What torch keeps for later is given back to the device first.
    """
    if not out_of_memory(error):
        return error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return MemoryShortage(
        "There is not enough memory for this now; what you set is kept. Ask for less (fewer images "
        "or samples, a smaller model), or try again when others have finished."
    )
