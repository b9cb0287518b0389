"""What uses notebooks: plans and runs them, keeps, compares and renders what they leave."""
