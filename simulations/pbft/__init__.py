"""Validators that agree, some of which lie: the scenario "pbft", its liars, checkers and mutations."""
