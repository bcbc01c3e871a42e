"""Shows that another conversion of the same model is the same in canonical form, inside the gate's environment.
`translation_again.py PROGRAMS CANDIDATE.onnx MODEL.onnx`
"""

from __future__ import annotations

import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from admit import admit
    from canonical import canonical

    again = canonical(admit(Path(sys.argv[2]).read_bytes()))
    assert again == Path(sys.argv[3]).read_bytes(), "another conversion gives other bytes"


if __name__ == "__main__":
    main()
