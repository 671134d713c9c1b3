"""What goes over the wire, and the machine behind each."""
