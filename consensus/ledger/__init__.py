"""What the organisations decide together: who belongs to the mesh, who has how much, what was approved."""
