"""Whether combining the runs already trained helps: Buluttekin 2020, chapter 1, objective 3."""
