"""Every error Layerwise raises on purpose: one root, and each message ends with the next step.

The command line turns these into one message on standard error and the exit code of the class.
Anything else that escapes is a defect and keeps its traceback.
"""


class LayerwiseError(Exception):
    """The root: an input or a flag is wrong. The message names it and says what to do next."""

    exit_code = 2


class DataError(LayerwiseError):
    """The images, the labels or the split can not be used as they are."""


class LeakError(DataError):
    """An image or a patient stands in two splits: scores on such data would deceive."""

    exit_code = 3


class ModelError(LayerwiseError):
    """A network, a cut or a transfer is unknown or does not fit."""


class WeightsError(LayerwiseError):
    """A weights file is unreadable, unsafe, or belongs to another network."""


class TrainingError(LayerwiseError):
    """Training can not start or can not go on; a check before a long run failed."""


class OutputError(LayerwiseError):
    """The output folder can not be written, or holds something else."""


class BundleError(LayerwiseError):
    """A bundle is damaged, or its network differs from the one that was trained."""


class RegistryError(LayerwiseError):
    """A registry of bundles is absent, damaged or can not be changed."""


class StatisticsError(LayerwiseError):
    """Statistics of inputs and scores are damaged, or are another model's."""


class EstimatorError(LayerwiseError, ValueError):
    """What an estimator refuses: as scikit-learn wants it, a ValueError too."""
