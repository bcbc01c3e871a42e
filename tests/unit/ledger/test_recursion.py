import subprocess
import sys


def test_what_encodes_leaves_the_recursion_limit_as_it_was() -> None:
    """In a process of its own: py_ecc raises the limit once, at its first import."""
    program = """
import sys
from polyshare.ledger.chain import ChainLedger
from polyshare.ports import Revocation
before = sys.getrecursionlimit()
ChainLedger(None, None)._encode([Revocation(b"i" * 16, b"d" * 32)])
assert "py_ecc" in sys.modules
assert sys.getrecursionlimit() == before, sys.getrecursionlimit()
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
