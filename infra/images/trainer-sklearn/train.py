"""Trains a scikit-learn model: the trainer used when no source is given (estimators.py says how)."""

from __future__ import annotations

import data
import estimators

if __name__ == "__main__":
    data.main(estimators.train)
