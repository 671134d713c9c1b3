"""Who is alive: SWIM with Lifeguard, facts signed by their subject, accusations by their accuser."""
