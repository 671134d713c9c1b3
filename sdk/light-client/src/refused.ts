/** What was looked at and is not believed; `named` is the name that the specification gives the reason. */
export class Refused extends Error {
  readonly named: string;

  constructor(named: string, why: string) {
    super(why);
    this.named = named;
  }
}
