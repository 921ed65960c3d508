"""`LayerwiseClassifier`: Layerwise as scikit-learn has its estimators."""

import html
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import (
    Tags,
    check_array,
    estimator_html_repr,
)
from sklearn.utils.validation import check_is_fitted, validate_data

from layerwise.errors import DataError
from layerwise.estimator.answers import encode
from layerwise.estimator.asking import check, counted, manifest_of, plainly, request_of
from layerwise.estimator.fitted import Fitted, torch_threads
from layerwise.estimator.inline import Inline, heat_pictures, profile_picture
from layerwise.estimator.learning import learn
from layerwise.estimator.reading import Given, Reading, as_files, listed, settle
from layerwise.studies.profile import auroc
from layerwise.training.recipe import Recipe
from layerwise.training.transfer import Transfer


class LayerwiseClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A pretrained network, of which is kept, frozen and trained what the pictures call for.

    X is an array of pictures, uint8 (n, H, W) or (n, H, W, 1 or 3) or numbers from 0 to 1 or 0 to
    255; a list of files or of PIL images; or a table (n, d) whose rows are pictures. y is (n,)
    classes, or (n, K) of 0 and 1, several labels a picture. See docs/python.md.

    Args:
        model: A network that `layerwise models` lists.
        weights: "pretrained", a file or a run's folder, or "none" for a start at random.
        transfer: "auto" probes every depth, cuts the network off at the lowest one that is not
            measurably worse than the best, fine-tunes it, and takes that or the best probe,
            whichever is better on the validation part. "probe" takes the best probe. "finetune"
            trains every layer. The name of a cut cuts off there and trains the rest. A `Transfer`
            is done as it says; where it copies, its source is `weights`.
        recipe: A `Recipe`, or a mapping of those of its settings that are to be other than those
            that `layerwise fit` begins with.
        epochs: Passes over the training part; None: as the recipe says, 10 without one.
        image_size: Side of the square pictures that the network gets; None: its own.
        letterbox: Keep the aspect ratio, filled up with black.
        model_args: For the network's constructor.
        image_shape: (H, W) or (H, W, 3) of the rows of a table; None: a square if d is one, else
            one line.
        value_range: (what is black, what is white) in X; None: see docs/python.md.
        validation: The fraction of X that is held out, to choose by.
        random_state: Of everything random. The same number, the same bits (same machine, threads).
        threads: Of PyTorch and ONNX Runtime; None: what PyTorch has now.
        cache: A folder in which pictures, activations and runs are kept for later fits; None: in
            one that is removed after `fit`.
        verbose: 1 prints what is being done.

    Attributes:
        classes_: (K,) the classes, sorted; of several labels their columns.
        n_features_in_: Numbers a picture; not there where X is a list.
        transfer_: What was kept, copied and frozen.
        run_: The same in words.
        history_: Of training, an entry an epoch: loss, validation AUROC, seconds; empty of a probe.
        validation_indices_: (v,) which pictures of X were held out.
        validation_score_: The AUROC on them.
    """

    def __init__(
        self,
        model: str = "timm:mobilenetv2_100",
        *,
        weights: str | Path = "pretrained",
        transfer: str | Transfer = "auto",
        recipe: Recipe | Mapping[str, Any] | None = None,
        epochs: int | None = None,
        image_size: int | None = None,
        letterbox: bool = False,
        model_args: Mapping[str, Any] | None = None,
        image_shape: tuple[int, ...] | None = None,
        value_range: tuple[float, float] | None = None,
        validation: float = 0.1,
        random_state: int | np.random.RandomState | None = 0,
        threads: int | None = None,
        cache: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        """Nothing is checked before `fit`."""
        self.model = model
        self.weights = weights
        self.transfer = transfer
        self.recipe = recipe
        self.epochs = epochs
        self.image_size = image_size
        self.letterbox = letterbox
        self.model_args = model_args
        self.image_shape = image_shape
        self.value_range = value_range
        self.validation = validation
        self.random_state = random_state
        self.threads = threads
        self.cache = cache
        self.verbose = verbose

    def fit(
        self,
        X: Any,  # noqa: ANN401
        y: Any,  # noqa: ANN401
        groups: Any = None,  # noqa: ANN401
        sample_weight: Any = None,  # noqa: ANN401
    ) -> "LayerwiseClassifier":
        """Hold a part out, probe or train, and keep the network.

        Args:
            X: Pictures, see the class.
            y: Their classes or labels.
            groups: (n,) whose pictures they are; all of one patient go to one part.
            sample_weight: (n,) what each counts, in learning and in choosing; their proportions
                decide, and those that count 0 are left out.

        Raises:
            ValueError: X, y or a parameter is wrong; it says what would do. (`EstimatorError`,
                or scikit-learn's own.)
        """
        with plainly(), tempfile.TemporaryDirectory(prefix="layerwise-") as folder:
            if y is None:
                raise DataError(
                    f"{type(self).__name__} requires y to be passed, but the target y is None"
                )
            check(self)
            place = Path(folder) if self.cache is None else Path(self.cache).expanduser()
            reading, given = self._settle(X, place / "pictures")
            importance, rows = counted(sample_weight, len(given))
            answers, targets = encode(y, len(given), rows)
            request = request_of(self, place, reading)
            with torch_threads(request.threads):
                learnt = learn(
                    manifest_of(given, targets, answers, groups, rows),
                    request,
                    importance=importance,
                    transfer=self.transfer,
                    recipe=self.recipe,
                    epochs=self.epochs,
                    validation=self.validation,
                    say=print if self.verbose else lambda _words: None,
                )
            work, outcome = learnt.work, learnt.outcome
            self._reading = reading
            self._fitted = Fitted.of(work, learnt.network, outcome, learnt.probes, answers)
            self.classes_ = answers.classes
            self.transfer_ = learnt.network.transfer
            self.run_ = outcome.run.name
            self.history_ = outcome.details.get("history", [])
            self.validation_indices_ = rows[work.rows("val")]
            self.validation_score_ = auroc(work, outcome)
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float32]:  # noqa: ANN401
        """(n, K) float32, a column for each of `classes_`; of several labels each by itself."""
        check_is_fitted(self)
        with plainly():
            return self._fitted.probabilities(self._read(X))

    def predict(self, X: Any) -> NDArray[Any]:  # noqa: ANN401
        """(n,) the likeliest class; of several labels (n, K) of 0 and 1, above one half."""
        said = self.predict_proba(X)
        return self._fitted.answers.decide(said)

    def explain(self, X: Any, label: Any = None) -> NDArray[np.float32]:  # noqa: ANN401
        """Where in the pictures a decision rests: Grad-CAM (Selvaraju et al. 2017).

        Args:
            X: Pictures.
            label: The class (of several labels, the column) that is explained; None: the one
                predicted, of several labels the likeliest.

        Returns:
            (n, image_size, image_size) float32 from 0 to 1, of the highest layer that still shows
            places; 0 everywhere where nothing speaks for the class.

        Raises:
            ValueError: An unknown class, or the network keeps no places.
        """
        return self._explained(X, label)[1]

    def plot_explanations(self, X: Any, label: Any = None) -> Inline:  # noqa: ANN401
        """The pictures of X, each with its heat map laid over it; shown in a notebook."""
        images, heat, names = self._explained(X, label)
        return heat_pictures(images, heat, names)

    @property
    def profile_(self) -> list[dict[str, Any]]:
        """The probe at every depth, bottom to top; `pandas.DataFrame(model.profile_)` is a table.

        Each has cut, channels, stride, parameters and macs (below the cut), auroc on the
        validation part with its 95% interval low and high (None where not defined), and whether
        the fitted network ends or is frozen there (chosen).
        """
        check_is_fitted(self)
        if not self._fitted.probes:
            raise AttributeError(
                f"transfer={self.transfer!r} probes no depth; fit with transfer='auto' or 'probe'"
            )
        return [self._fitted.probed(probe) for probe in self._fitted.probes]

    def plot_profile(self) -> Inline:
        """The depth profile as a picture; shown in a notebook, `save` writes it as SVG."""
        return profile_picture(self.profile_)

    def export(self, folder: str | Path) -> Path:
        """Write a bundle, which predicts without PyTorch: `layerwise predict FOLDER IMAGES`.

        It takes pictures of 0 to 255, as files are; compared with the network on real ones.

        Args:
            folder: The bundle's folder; a bundle that stands there is replaced.

        Raises:
            ValueError: The folder can not be written, or the two do not answer alike.
        """
        check_is_fitted(self)
        with plainly():
            self._fitted.export(folder)
        return Path(folder)

    def __sklearn_tags__(self) -> Tags:
        """What scikit-learn may ask of it."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        tags.input_tags.three_d_array = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "transfer_")

    def _html_repr(self) -> str:
        """As scikit-learn shows estimators in a notebook, and the depth profile."""
        shown = str(estimator_html_repr(self))
        if not self.__sklearn_is_fitted__():
            return shown
        words = f"{self.run_}: validation AUROC {self.validation_score_:.3f}"
        figure = self.plot_profile().html if self._fitted.probes else ""
        return f"{shown}<p>{html.escape(words)}</p>{figure}"

    def _settle(self, X: Any, folder: Path) -> tuple[Reading, Given]:  # noqa: ANN401
        """How X is read from now on, and X read so."""
        items = listed(X)
        if items is not None:
            self._without_features()
            return Reading("list", 0, 0.0, 255.0), as_files(items, folder)
        array = self._numbers(X, reset=True)
        reading = settle(array, self.image_shape, self.value_range)
        return reading, reading.pictures(array)

    def _read(self, X: Any) -> Given:  # noqa: ANN401
        """X as `fit` settled it."""
        items = listed(X)
        if items is None:
            return self._reading.pictures(self._numbers(X, reset=False))
        if self._reading.kind == "table":
            raise DataError("X is a list of pictures, and fit was given a table; give a table")
        return items

    def _numbers(self, X: Any, reset: bool) -> NDArray[Any]:  # noqa: ANN401
        """X as finite numbers, checked by scikit-learn's own rules."""
        fewest = 2 if reset else 1
        axes = X.ndim if hasattr(X, "ndim") else np.asarray(X).ndim
        if axes <= 2:
            return np.asarray(validate_data(self, X, reset=reset, ensure_min_samples=fewest))
        array = check_array(
            X, allow_nd=True, ensure_min_samples=fewest, input_name="X", estimator=self
        )
        if reset:
            self._without_features()
            self.n_features_in_ = int(np.prod(array.shape[1:]))
        return np.asarray(array)

    def _without_features(self) -> None:
        """Forget the features of a table that an earlier `fit` was given."""
        for name in ("n_features_in_", "feature_names_in_"):
            self.__dict__.pop(name, None)

    def _explained(
        self,
        X: Any,  # noqa: ANN401
        label: Any,  # noqa: ANN401
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], list[str]]:
        """The pictures as the network sees them, their heat maps, and what is explained of each."""
        check_is_fitted(self)
        with plainly():
            given = self._read(X)
            said = self._fitted.probabilities(given)
            decided = said.argmax(axis=1)
            if label is not None:
                (place,) = np.nonzero(self.classes_ == label)
                if not len(place):
                    raise DataError(
                        f"label={label!r} is none of the classes {self.classes_.tolist()}"
                    )
                decided = np.full(len(said), place[0])
            images, heat = self._fitted.explained(given, decided)
        labels = self._fitted.answers.labels
        names = [f"{labels[k]}: {row[k]:.3f}" for k, row in zip(decided, said, strict=True)]
        return images, heat, names
