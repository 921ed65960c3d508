"""The grid search over folds and C of a linear SVM, against scikit-learn's.

    python bench/solvers.py IMAGES --weights FILE

Real activations of the last map of a network, of the images' training part, are brought to mean 0
and deviation 1 once for all. Then the same search (10 folds, C = 0.01 … 100) is made three ways:
all folds together, one problem after another with the same solver, and `GridSearchCV` of
`LinearSVC(dual=False)`. scikit-learn fits some of the folds only (`--sklearn-folds`), and its time
is multiplied; with all ten, C and every mean accuracy should be ours. Times are medians of rounds,
ratios are taken round by round.
"""

import argparse
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from layerwise.models.solved.grid import PENALTIES, search
from layerwise.models.solved.rotation import Columns
from layerwise.studies.frozen import activations_at, head_transfer
from layerwise.studies.prepare import Request, prepare

FOLDS = 10


def maps(args, folder):
    """The last map (n, C, H, W) and the targets of the training part."""
    request = Request(
        data=args.data,
        out=Path(folder) / "out",
        cache=Path(folder) / "cache",
        model=args.model,
        arguments=dict(a.split("=", 1) for a in args.model_arg),
        weights=args.weights,
        image_size=args.image_size,
    )
    work = prepare(request, print, lambda _: lambda *_: None, lambda *_: 0).work
    cut = work.cuts()[-1]
    features = activations_at(work, head_transfer(cut, work.weights_name, True), cut)
    rows = np.random.default_rng(0).permutation(work.rows("train"))[: args.rows]
    return features.read((rows, slice(0, args.channels))), work.manifest.targets[rows]


def timed(task):
    started = time.perf_counter()
    return task(), time.perf_counter() - started


def compare(x, y, args):
    z = StandardScaler().fit_transform(x.astype(np.float64)).astype(np.float32)
    kfold = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    splits = list(kfold.split(z, y))
    fold = np.empty(len(y), np.int64)
    for number, (_, held) in enumerate(splits):
        fold[held] = number
    task = "binary" if y.max() == 1 else "multiclass"

    def ours(at_once):
        return search(Columns.of(z), y, fold, task, kind="squared hinge", at_once=at_once)

    def theirs():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says where it stopped before the end
            model = LinearSVC(dual=False)
            part = splits[: args.sklearn_folds]
            grid = GridSearchCV(model, {"C": list(PENALTIES)}, cv=part, refit=False)
            return grid.fit(z, y)

    taken = {"together": [], "one after another": [], "scikit-learn": []}
    for _ in range(args.rounds):
        together, seconds = timed(lambda: ours(8 * 2**20))
        taken["together"].append(seconds)
        taken["one after another"].append(timed(lambda: ours(1))[1])
        other, seconds = timed(theirs)
        taken["scikit-learn"].append(seconds * FOLDS / args.sklearn_folds)
    print(f"n = {z.shape[0]}, d = {z.shape[1]}: C = {together.penalties[0]:g}; of the folds that")
    print(f"  scikit-learn fitted it chooses {other.best_params_['C']:g}")
    print(f"  mean accuracy, ours {together.scores[:, 0].round(4).tolist()}")
    print(
        f"  scikit-learn, {args.sklearn_folds} of {FOLDS} folds "
        f"{other.cv_results_['mean_test_score'].round(4).tolist()}"
    )
    for name, seconds in taken.items():
        ratios = [s / t for s, t in zip(seconds, taken["together"], strict=True)]
        print(f"  {name}: {statistics.median(seconds):.2f} s, {statistics.median(ratios):.2f}×")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("data")
    parser.add_argument("--model", default="timm:mobilenetv2_100")
    parser.add_argument("--model-arg", action="append", default=[])
    parser.add_argument("--weights", required=True)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--rows", type=int, default=4172, help="training images at most")
    parser.add_argument("--channels", type=int, default=512, help="of the flattened maps")
    parser.add_argument("--sklearn-folds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pooled", action="store_true", help="mean over the map, all channels")
    args = parser.parse_args()
    args.channels = None if args.pooled else args.channels
    with tempfile.TemporaryDirectory() as folder:
        x, y = maps(args, folder)
    compare(x.mean(axis=(2, 3)) if args.pooled else x.reshape(len(x), -1), y, args)


if __name__ == "__main__":
    main()
