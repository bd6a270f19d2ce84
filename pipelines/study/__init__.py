"""Studies: many experiments with the table or figure that they are for."""
