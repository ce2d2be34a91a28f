"""Published weights on this disk: fetched, unpacked, pinned by their digest, checked against their card, converted."""
