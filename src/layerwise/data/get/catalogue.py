"""The public sets that `layerwise get` knows: what they are, their terms, and where they are."""

import difflib
from dataclasses import dataclass

from layerwise.errors import DataError

MEDMNIST, KAGGLE, COMPETITION, BY_HAND = "medmnist", "kaggle", "kaggle competition", "by hand"
SIZES = (28, 64, 128, 224)  # pixels of a side of the MedMNIST sets
ZENODO = "https://zenodo.org/records/10519652"
KERMANY = "(person\\d+|IM-\\d+)"  # patients in the file names of the Guangzhou X-rays


@dataclass(frozen=True)
class PublicSet:
    """One public set.

    Attributes:
        name: What the user types.
        what: One line: pictures and task.
        images: How many.
        licence: The licence, or the terms in a few words.
        client: What fetches it: MEDMNIST, KAGGLE, COMPETITION or BY_HAND.
        page: Where a person finds it, with its terms.
        handle: The client's name of it.
        key: Whether a Kaggle key is needed: "no", "if asked" or "yes".
        data: What DATA is, below the set's folder; the first one that is there.
        flags: Flags of `layerwise fit` and `inspect` that go with it.
        cite: Whom to cite.
        labels: A table of the set that has several rows an image, and the columns to keep of it:
            labels.csv is made of them, with one row an image.
    """

    name: str
    what: str
    images: int
    licence: str
    client: str
    page: str
    handle: str = ""
    key: str = "no"
    data: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    cite: str = ""
    labels: tuple[str, ...] = ()


def _medmnist(name: str, what: str, images: int, licence: str = "CC BY 4.0") -> PublicSet:
    """One of the 2-D sets of MedMNIST v2 (3.0 of its package, sizes 28 to 224)."""
    return PublicSet(
        *(name, what, images, licence, MEDMNIST, ZENODO),
        handle=name,
        cite="Yang et al., Scientific Data 2023 (MedMNIST v2), and the set's own source",
    )


_ALL = (
    PublicSet(
        "guangzhou",
        "chest X-rays of children: normal, pneumonia",
        5856,
        "CC BY 4.0",
        KAGGLE,
        "https://www.kaggle.com/datasets/paultimothymooney/chest-xray-pneumonia",
        handle="paultimothymooney/chest-xray-pneumonia",
        key="if asked",
        data=("chest_xray",),
        flags=("--patient-from", KERMANY),
        cite="Kermany et al., Cell 2018; Mendeley Data rscbjbr9sj",
    ),
    PublicSet(
        "nih",
        "NIH ChestX-ray14: chest X-rays, 14 findings, 45 GB",
        112_120,
        "free, if source and paper are cited",
        KAGGLE,
        "https://www.kaggle.com/datasets/nih-chest-xrays/data",
        handle="nih-chest-xrays/data",
        key="if asked",
        data=("Data_Entry_2017.csv",),
        cite="Wang et al., CVPR 2017 (ChestX-ray8)",
    ),
    PublicSet(
        "nih-sample",
        "a random twentieth of NIH ChestX-ray14",
        5606,
        "free, if source and paper are cited",
        KAGGLE,
        "https://www.kaggle.com/datasets/nih-chest-xrays/sample",
        handle="nih-chest-xrays/sample",
        key="if asked",
        data=("sample_labels.csv", "sample/sample_labels.csv"),
        cite="Wang et al., CVPR 2017 (ChestX-ray8)",
    ),
    PublicSet(
        "rsna",
        "DICOM chest X-rays: normal, lung opacity, other",
        26_684,
        "competition rules: not for profit",
        COMPETITION,
        "https://www.kaggle.com/competitions/rsna-pneumonia-detection-challenge",
        handle="rsna-pneumonia-detection-challenge",
        key="yes",
        data=("stage_2_train_images",),
        flags=(
            *("--labels", "{folder}/labels.csv"),
            *("--path-column", "patientId", "--label-column", "class"),
        ),
        cite="Shih et al., Radiology: Artificial Intelligence 2019",
        labels=("stage_2_detailed_class_info.csv", "patientId", "class"),
    ),
    PublicSet(
        "chexpert",
        "CheXpert: chest X-rays, 14 labels, some uncertain",
        224_316,
        "research use agreement: register",
        BY_HAND,
        "https://stanfordmlgroup.github.io/competitions/chexpert/",
        data=("CheXpert-v1.0-small/train.csv", "CheXpert-v1.0/train.csv", "train.csv"),
        cite="Irvin et al., AAAI 2019",
    ),
    PublicSet(
        "covid-chestxray",
        "chest X-rays of COVID-19 and other pneumonias",
        950,
        "differs by picture",
        BY_HAND,
        "https://github.com/ieee8023/covid-chestxray-dataset",
        data=("metadata.csv", "covid-chestxray-dataset-master/metadata.csv"),
        cite="Cohen et al., arXiv:2006.11988",
    ),
    _medmnist("pneumoniamnist", "the Guangzhou chest X-rays: normal, pneumonia", 5856),
    _medmnist("chestmnist", "NIH ChestX-ray14: 14 findings, several a picture", 112_120),
    _medmnist("breastmnist", "breast ultrasound: malignant or not", 780),
    _medmnist("retinamnist", "fundus photographs: five degrees of retinopathy", 1600),
    _medmnist("dermamnist", "skin lesions: seven kinds", 10_015, "CC BY-NC 4.0"),
    _medmnist("octmnist", "retinal OCT: three diseases and normal", 109_309),
    _medmnist("bloodmnist", "blood cells under the microscope: eight kinds", 17_092),
    _medmnist("pathmnist", "colon tissue under the microscope: nine kinds", 107_180),
    _medmnist("tissuemnist", "kidney cells under the microscope: eight kinds", 236_386),
    _medmnist("organamnist", "abdominal CT, axial slices: eleven organs", 58_830),
    _medmnist("organcmnist", "abdominal CT, coronal slices: eleven organs", 23_583),
    _medmnist("organsmnist", "abdominal CT, sagittal slices: eleven organs", 25_211),
)
SETS = {one.name: one for one in _ALL}


def find(name: str) -> PublicSet:
    """A set by its name, in capitals or not.

    Raises:
        DataError: There is none; the message says which name is near.
    """
    wanted = name.strip().lower()
    if wanted in SETS:
        return SETS[wanted]
    if wanted.endswith("mnist3d"):
        raise DataError(
            f"{name}: a set of volumes, and Layerwise reads pictures; choose one of those that "
            "`layerwise get` lists"
        )
    near = difflib.get_close_matches(wanted, SETS, n=1)
    meant = f"did you mean {near[0]}? " if near else ""
    raise DataError(f"{name}: no such public set; {meant}`layerwise get` lists those there are")
