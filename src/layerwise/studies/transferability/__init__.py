"""How general the features of each layer are: Yosinski et al. 2014."""
