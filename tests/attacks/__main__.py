from tests.attacks.table import printed

print(printed())
