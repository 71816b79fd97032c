"""refdbg-triage: many interpreters times many commands, each through refdbg-run, and one summary of all."""
