"""The face for Python: an estimator as scikit-learn has them."""
