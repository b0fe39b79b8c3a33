"""What Mehra, Alonso Garcia and Mauch (2025) report, and how they score."""
