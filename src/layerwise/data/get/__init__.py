"""Public data sets: what there is, fetched through its own clients, checked by digest."""
