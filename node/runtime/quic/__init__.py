"""What links between members and the square of strangers share of QUIC."""
