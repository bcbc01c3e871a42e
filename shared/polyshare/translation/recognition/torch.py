"""PyTorch: torch.save's and torch.export's archives, TorchScript, safetensors."""

from __future__ import annotations

from pathlib import Path

from polyshare.translation.recognition import content

_LONGEST_HEADER = 100 * 1024 * 1024  # safetensors' own limit


def recognises(path: Path) -> bool:
    head = content.head(path)
    if content.members(path) & {"data.pkl", "archive_format", "serialized_exported_program.json"}:
        return True
    is_table = 2 <= int.from_bytes(head[:8], "little") <= _LONGEST_HEADER
    return is_table and head[8:9] == b"{"
