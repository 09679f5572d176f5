"""The dashboard: this proxy for people, as pages. It shows what others count, keep and judge, and changes nothing."""
