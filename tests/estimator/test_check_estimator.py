"""scikit-learn's own checks of an estimator, all of them; a few of each kind are quick enough."""

import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator

from layerwise import LayerwiseClassifier

MODEL = LayerwiseClassifier("lenet5", weights="none", transfer="probe", image_size=28, threads=1)

# A check that can not be passed stands here with the reason; all others are.
CAN_NOT_PASS = {
    "check_sample_weight_equivalence_on_dense_data": (
        "a part is held out to choose by: of pictures that are repeated another one is drawn than "
        "of pictures that count more"
    ),
}

QUICK = {
    "check_estimator_cloneable",
    "check_estimator_tags_renamed",
    "check_valid_tag_types",
    "check_estimator_repr",
    "check_no_attributes_set_in_init",
    "check_estimators_unfitted",
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_mixin_order",
    "check_complex_data",
    "check_estimators_empty_data_messages",
    "check_estimator_sparse_tag",
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_supervised_y_no_nan",
    "check_parameters_default_constructible",
    "check_fit2d_1sample",
    "check_get_params_invariance",
    "check_set_params",
    "check_fit1d",
    "check_requires_y_none",
    "check_dict_unchanged",
    "check_n_features_in_after_fitting",
    "check_all_zero_sample_weights_error",
    "check_classifiers_one_label_sample_weights",
}


def checks():
    """Every check with a name of its own; those that fit more often are slow."""
    found = estimator_checks_generator(
        MODEL, expected_failed_checks=CAN_NOT_PASS, mark="xfail", xfail_strict=True
    )
    for one in found:
        values, marks = (one.values, list(one.marks)) if hasattr(one, "values") else (one, [])
        check = values[1]
        how = ",".join(f"{name}={value}" for name, value in check.keywords.items())
        name = check.func.__name__
        if name not in QUICK:
            marks.append(pytest.mark.slow)
        yield pytest.param(*values, marks=marks, id=f"{name}({how})")


@pytest.mark.parametrize(("estimator", "check"), list(checks()))
def test_scikit_learns_checks(estimator, check):
    check(estimator)
