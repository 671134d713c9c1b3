"""An MCP server that converts units of measure, exactly: factors are fractions, so nothing is lost on the way."""

from fractions import Fraction

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

SURE = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
server = MCPServer("units")


def _table(text: str) -> dict[str, tuple[Fraction, Fraction]]:
    """``name = factor [+ offset]`` a line: value in the base unit = value * factor + offset."""
    table: dict[str, tuple[Fraction, Fraction]] = {}
    for line in text.strip().splitlines():
        names, _, rule = line.partition("=")
        factor, _, offset = rule.partition("+")
        numerator, _, denominator = factor.strip().partition("/")
        value = Fraction(numerator) / Fraction(denominator or "1")
        for name in names.split(","):
            table[name.strip()] = (value, Fraction(offset.strip() or "0"))
    return table


# Factors: BIPM SI brochure, 9th edition; NIST Special Publication 811, appendix B.
UNITS = {
    "length": _table("""
        m, metre, meter = 1
        km, kilometre, kilometer = 1000
        cm, centimetre = 0.01
        mm, millimetre = 0.001
        um, micrometre = 0.000001
        in, inch = 0.0254
        ft, foot, feet = 0.3048
        yd, yard = 0.9144
        mi, mile, miles = 1609.344
        nmi, nautical mile = 1852
        fathom = 1.8288
        au, astronomical unit = 149597870700
        ly, light-year = 9460730472580800"""),
    "mass": _table("""
        kg, kilogram = 1
        g, gram = 0.001
        mg, milligram = 0.000001
        t, tonne = 1000
        lb, pound = 0.45359237
        oz, ounce = 0.028349523125
        st, stone = 6.35029318
        ton, short ton = 907.18474
        ozt, troy ounce = 0.0311034768
        ct, carat = 0.0002"""),
    "volume": _table("""
        m3, cubic metre = 1
        l, litre, liter = 0.001
        ml, millilitre = 0.000001
        gal, us gallon = 0.003785411784
        imp gal, imperial gallon = 0.00454609
        qt, us quart = 0.000946352946
        pt, us pint = 0.000473176473
        imp pt, imperial pint = 0.00056826125
        cup, us cup = 0.0002365882365
        fl oz, us fluid ounce = 0.0000295735295625
        tbsp, tablespoon = 0.00001478676478125
        tsp, teaspoon = 0.00000492892159375
        bbl, oil barrel = 0.158987294928"""),
    "area": _table("""
        m2, square metre = 1
        km2, square kilometre = 1000000
        ha, hectare = 10000
        a, are = 100
        ft2, square foot = 0.09290304
        yd2, square yard = 0.83612736
        acre = 4046.8564224
        mi2, square mile = 2589988.110336"""),
    "speed": _table("""
        m/s = 1
        km/h, kph = 5/18
        mph = 0.44704
        kn, knot = 463/900
        ft/s = 0.3048"""),
    "temperature": _table("""
        K, kelvin = 1
        C, celsius = 1 + 273.15
        F, fahrenheit = 5/9 + 45967/180
        R, rankine = 5/9"""),
    "energy": _table("""
        J, joule = 1
        kJ, kilojoule = 1000
        Wh, watt-hour = 3600
        kWh, kilowatt-hour = 3600000
        cal, calorie = 4.184
        kcal, kilocalorie = 4184
        BTU = 1055.05585262
        eV, electronvolt = 0.0000000000000000001602176634"""),
    "pressure": _table("""
        Pa, pascal = 1
        hPa, hectopascal, mbar = 100
        kPa, kilopascal = 1000
        bar = 100000
        atm, atmosphere = 101325
        psi = 6894.757293168
        mmHg = 133.322387415
        torr = 101325/760"""),
    "time": _table("""
        s, second = 1
        ms, millisecond = 0.001
        min, minute = 60
        h, hour = 3600
        d, day = 86400
        week = 604800
        year, julian year = 31557600"""),
    "data": _table("""
        B, byte = 1
        bit = 1/8
        kB, kilobyte = 1000
        MB, megabyte = 1000000
        GB, gigabyte = 1000000000
        TB, terabyte = 1000000000000
        KiB, kibibyte = 1024
        MiB, mebibyte = 1048576
        GiB, gibibyte = 1073741824
        TiB, tebibyte = 1099511627776"""),
}


def _find(unit: str) -> tuple[str, str]:
    """``(quantity, name as in the table)``: exactly as written, else whatever the case and a plural s."""
    wanted = unit.strip()
    for quantity, table in UNITS.items():
        if wanted in table:
            return quantity, wanted
    folded = wanted.casefold()
    for candidate in (folded, folded.removesuffix("s")):
        found = [(quantity, name) for quantity, table in UNITS.items() for name in table if name.casefold() == candidate]
        if len(found) == 1:
            return found[0]
    raise ToolError(f"the unit {unit[:40]!r} is not known, or could be two; the tool list_units names all")


@server.tool(annotations=SURE)
def convert(value: float, from_unit: str, to_unit: str) -> dict[str, float | str]:
    """Convert a value from one unit of measure to another, for example 42.195 km to miles, 70 F to C, 12 kn to km/h."""
    quantity, source = _find(from_unit)
    other, target = _find(to_unit)
    if quantity != other:
        raise ToolError(f"{source} measures {quantity}, {target} measures {other}")
    factor, offset = UNITS[quantity][source]
    to_factor, to_offset = UNITS[quantity][target]
    exact = (Fraction(str(value)) * factor + offset - to_offset) / to_factor
    return {"value": float(exact), "unit": target, "exact": f"{exact.numerator}/{exact.denominator}", "quantity": quantity}


@server.tool(annotations=SURE)
def list_units(quantity: str = "") -> dict[str, list[str]]:
    """List the units of one quantity (length, mass, volume, area, speed, temperature, energy, pressure, time, data), or of all."""
    if quantity and quantity not in UNITS:
        raise ToolError(f"the quantity is one of {', '.join(UNITS)}")
    return {name: list(table) for name, table in UNITS.items() if quantity in ("", name)}


if __name__ == "__main__":
    server.run("stdio")
