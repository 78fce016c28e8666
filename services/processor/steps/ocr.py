"""Recognize text in images with rapidocr and its bundled models."""

import os
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PAGES = 50
"""Pages of one file that are recognized. A page full of text takes about six seconds on one core,
and the whole file must stay well within the time limit."""

MAX_SIDE = 2000
"""Pixels of an image's longer side; rapidocr itself scales down larger images."""

_SAME_LINE = 0.5
"""Share of the smaller height by which two boxes must overlap vertically to be on one line."""

Box = tuple[float, float, float, float]
"""left, top, right, bottom"""


def read_picture(picture: "Image") -> str:
    """Recognize the text in an RGB image, line by line.

    Raises:
        MemoryError: recognition takes more memory than the process may use.
    """
    try:
        found = _engine()(picture)
    except Exception as error:
        # The native libraries raise their own exceptions when memory runs out.
        if "alloc" in str(error).lower() or "memory" in str(error).lower():
            raise MemoryError(str(error)) from error
        raise
    if found.boxes is None or found.txts is None:
        return ""
    boxes = [(*corners.min(axis=0), *corners.max(axis=0)) for corners in found.boxes]
    return "\n".join(in_lines(zip(boxes, found.txts, strict=True)))


def in_lines(found: Iterable[tuple[Box, str]]) -> list[str]:
    """Join pieces of text into lines, from top to bottom and left to right."""
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
    """Load the engine once per process: the models take a second and some 300 MB."""
    # onnxruntime sends telemetry unless this is set before its import.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # numpy's OpenBLAS reserves memory per core, which on large machines exceeds a worker's memory
    # limit.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    import cv2
    from rapidocr import RapidOCR

    # One thread each, since a pod has one worker per core.
    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Global.max_side_len": MAX_SIDE,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
