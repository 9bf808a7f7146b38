"""Look for the smallest evidence that a network is not robust, and count it against it."""
