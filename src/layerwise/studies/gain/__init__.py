"""Transfer against random initialisation: Peng et al. 2021, §3."""
