"""The reading of text in pictures, by rapidocr with the models that it carries."""

import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PAGES = 50
"""Pages of one file that are read: a page full of text takes a core about six seconds, and all
must be done well within the time limit of an attempt."""

MAX_SIDE = 2000
"""Pixels of the longer side of a picture; rapidocr makes larger ones smaller itself."""

_SAME_LINE = 0.5
"""Share of its height by which a box lies beside another for both to be of one line."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom"""


def read_picture(picture: "Image") -> str:
    """The text in a picture (RGB), line by line.

    Raises:
        MemoryError: the picture takes more memory than the process may use.
    """
    try:
        found = _engine()(picture)
    except Exception as error:
        # The native libraries have exceptions of their own for this.
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        raise
    if found.boxes is None or found.txts is None:
        return ""
    boxes = [(*corners.min(axis=0), *corners.max(axis=0)) for corners in found.boxes]
    return "\n".join(in_lines(zip(boxes, found.txts, strict=True)))


def in_lines(found: Iterable[tuple[Box, str]]) -> list[str]:
    """The found pieces of text joined to lines, from the top down and from left to right."""
    lines: list[list[tuple[Box, str]]] = []
    for box, text in sorted(found, key=lambda each: each[0][1]):
        if lines and _is_beside(box, lines[-1][-1][0]):
            lines[-1].append((box, text))
        else:
            lines.append([(box, text)])
    return [" ".join(text for _, text in sorted(line)) for line in lines]


def _is_beside(box: Box, other: Box) -> bool:
    shared = min(box[3], other[3]) - max(box[1], other[1])
    return shared > _SAME_LINE * min(box[3] - box[1], other[3] - other[1])


@cache
def _engine() -> Any:
    """Loaded once a process: the models take a second and some three hundred megabytes."""
    # onnxruntime would tell its maker about every process; this is to be said before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # numpy's OpenBLAS sets memory aside for each core, for which the memory limit of a worker has
    # no room on a large machine.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import cv2
    from rapidocr import RapidOCR

    # One thread everywhere, for a pod has a worker for each core.
    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": MAX_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
