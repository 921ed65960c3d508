"""The study of hyper-parameters: Buluttekin 2020, §4.2.2."""
