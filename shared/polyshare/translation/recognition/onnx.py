"""ONNX: a protobuf of onnx.ModelProto, by its outermost fields."""

from __future__ import annotations

from pathlib import Path

from polyshare.translation.recognition import content

_GRAPH = 7
_BEFORE_GRAPH = {2, 3, 4, 6, 8, 14}  # strings and messages of ModelProto; 5 is a number


def recognises(path: Path) -> bool:
    """Whether the file begins as ModelProto is written: IR version, then its other fields until the graph comes."""
    head = content.head(path)
    if len(head) < 4 or head[0] != 0x08 or not 1 <= head[1] <= 64:
        return False
    at = 2
    while at < len(head):
        field, wire = head[at] >> 3, head[at] & 7
        length, at = _varint(head, at + 1)
        if field == _GRAPH and wire == 2:
            return True
        if field == 5 and wire == 0:
            continue
        if field not in _BEFORE_GRAPH or wire != 2:
            return False
        at += length
    return False


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            break
    return value, at
