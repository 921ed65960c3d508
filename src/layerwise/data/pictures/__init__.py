"""From a file or an archive to an array, whatever kind of picture it is."""
