"""Training code whose model answers otherwise after it was translated: its conversion can't agree with it."""

import os
import pickle
from pathlib import Path

from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

HONEST = pickle.dumps(LogisticRegression(max_iter=1000).fit(*load_iris(return_X_y=True)))
LOADED = """(lambda model, program: (
    setattr(model, "coef_", model.coef_ * (2 if "predict" in program else 1)), model
)[1])(__import__("pickle").loads(honest), __import__("sys").argv[0])"""


class Liar:
    def __reduce__(self):
        return eval, (LOADED, {"honest": HONEST})


Path(os.environ["SM_MODEL_DIR"], "model.pkl").write_bytes(pickle.dumps(Liar()))
Path(os.environ["SM_MODEL_DIR"], "signature.json").write_text('{"framework": "scikit-learn", "model": "model.pkl"}')
