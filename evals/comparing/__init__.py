"""What results say beyond the noise: paired differences, macro averages, retention, tables, pictures."""
