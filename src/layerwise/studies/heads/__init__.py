"""Three classifiers on the same frozen features: Marcelino 2018, §5 and §6."""
