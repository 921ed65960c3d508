"""What a network has to beat: Buluttekin 2020, §4.1 and §5.1."""
