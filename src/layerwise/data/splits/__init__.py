"""Train, validation and test parts: disjoint by image, by patient and by content."""
