"""What `python -m mol_fast.doctor` checks; nothing else imports this package, which may import the reference."""
