"""Writes the UCI handwritten digits that scikit-learn ships as files: train/ and test/ of one CSV each, and one digit.

python export_digits.py FOLDER
"""

import csv
import sys
from pathlib import Path

from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def main(folder: Path) -> None:
    digits = load_digits()
    parts = train_test_split(digits.data, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    header = [*(f"pixel_{row}_{column}" for row in range(8) for column in range(8)), "digit"]
    for name, pixels, labels in (("train", parts[0], parts[2]), ("test", parts[1], parts[3])):
        path = folder / "digits" / name / "digits.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(header)
            writer.writerows([*map(int, row), int(label)] for row, label in zip(pixels, labels, strict=True))
    (folder / "digit.csv").write_text(",".join(str(int(v)) for v in parts[1][0]) + "\n")
    print(f"{len(parts[0])} digits to train on, {len(parts[1])} to test with; digit.csv is a {parts[3][0]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
