"""What any node of an organisation may be asked, and the one that leads does."""
