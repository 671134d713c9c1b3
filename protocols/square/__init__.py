"""The public square: what strangers may ask, and what they are answered. Pure: bytes in, bytes out, time as an argument."""
