import subprocess
import sys


def test_what_signs_leaves_the_recursion_limit_as_it_was() -> None:
    """In a process of its own: py_ecc raises the limit once, at its first import."""
    program = """
import sys, tempfile, pathlib
from polyshare.ledger.keys import make_key
before = sys.getrecursionlimit()
make_key(pathlib.Path(tempfile.mkdtemp()) / "key")
assert "py_ecc" in sys.modules
assert sys.getrecursionlimit() == before, sys.getrecursionlimit()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
