"""Keys and key stores, signatures with domains, certificates, DIDs, boxes."""
