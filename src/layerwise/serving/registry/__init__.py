"""Which bundle is the champion, how another one takes its place, and how it is taken back."""
