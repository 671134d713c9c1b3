"""How decisions are agreed on."""
