"""How tasks are paid for: tabs on the ledger, vouchers between nodes (DESIGN.md, "A task, exactly")."""
