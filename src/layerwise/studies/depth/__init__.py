"""How much of a pretrained network is worth keeping: Peng et al. 2021, §4, and beyond."""
